package unpack_test

func unpackHelper(args []string) error { return nil }
