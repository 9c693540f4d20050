"""A finished phase as data sets of torch and of Hugging Face, in the order of training."""
