"""The autoencoder of 2016, as published, with its known defects fixed."""
