"""What systems are measured on: each protocol says what is drawn and what it is compared with."""
