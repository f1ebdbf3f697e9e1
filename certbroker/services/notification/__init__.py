"""Who is told what happens, and how it reaches them."""
