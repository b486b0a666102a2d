"""What runs at the coordinator; it never sees a patient."""
