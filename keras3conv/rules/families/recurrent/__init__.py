"""Rules for recurrent layers and cells."""
