"""Training on several devices and machines: who takes part, and a step that is shared."""
