"""The llama.cpp engine: exact, batched, prefix-sharing greedy decoding in a worker process."""
