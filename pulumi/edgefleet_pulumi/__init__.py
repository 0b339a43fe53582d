"""What the Pulumi projects share: the model of the declarations, the components, and what a program is made of."""
