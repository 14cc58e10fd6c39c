"""All symptoms on a Profile -> findings; findings -> prescriptions."""
