"""`voicebus transcripts`: what was said in a cluster, for its operators, read from the archive's database."""
