"""The sub-commands. Each file imports what is heavy inside its functions, so that help and checks answer at once."""
