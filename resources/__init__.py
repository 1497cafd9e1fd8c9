"""Things with state or outside the process: profiles, collections, store, engines, latent codecs."""
