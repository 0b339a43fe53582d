"""The one thing that a program does at the cluster by itself: having the site's secrets made, past Pulumi's state."""
