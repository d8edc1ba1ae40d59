"""Small tasks that show what a sequence model can and cannot do; drawn from a seed or shipped with scikit-learn."""
