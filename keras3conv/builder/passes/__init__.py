"""The passes that rewrite a program: fold activations, tidy statements, find repeated blocks and shared towers."""
