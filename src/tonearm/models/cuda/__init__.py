"""torch on a CUDA device: half precision, CUDA graphs, and the check that both say what fp32 says."""
