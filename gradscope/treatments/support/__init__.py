"""What the plans and edits of several treatments share."""
