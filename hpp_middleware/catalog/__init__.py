"""What is known of models that the operator did not describe: prices and limits, as data with a reader."""
