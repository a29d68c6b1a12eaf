"""What a CUDA op must do, whoever runs it: fibers on the host, or a GPU. A case takes the tensors' device."""
