"""Reading of patient data, which only hospitals do: recordings and tables become examples of patients."""
