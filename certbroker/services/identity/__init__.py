"""Who may do what, and the tokens that say who somebody is."""
