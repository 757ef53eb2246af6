"""The pages of an autoencoder: what each latent is active on, gathered from a store and its events and written out."""
