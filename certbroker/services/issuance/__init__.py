"""How a certificate is made: the operation, its key, its journal, and what is stored when it has been issued."""
