"""What turns a sequence model into a tool for one field. One domain never imports another."""
