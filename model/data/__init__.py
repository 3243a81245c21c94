"""What training and evaluation read: sets of films as shards, voices, crops, and what is held out."""
