"""The local Triton: started from the wheel, watched, fed with models, and swept up after."""
