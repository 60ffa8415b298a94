"""The author's query: which of its columns is what, and how an identity's value is made."""
