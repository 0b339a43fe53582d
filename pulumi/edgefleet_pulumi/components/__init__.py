"""Pulumi components: one module each. Their arguments are plain, checked values; they read no configuration."""
