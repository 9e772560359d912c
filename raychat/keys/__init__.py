"""The key server: public keys that let others write to a device while it is offline."""
