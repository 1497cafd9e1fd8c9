"""A stand-in for the cosmos_predict1 of nv-tlabs/lyra, Lyra-1."""
