"""Browser tests of the page: a package, so that they share one browser, which ends with them."""
