// Package registry gives tests registries on loopback.
//
//	Server   Debian's docker-registry, plain, filled by Push from OCI layouts
//	Front    what the large registries are: a token server, and blobs behind a
//	         redirect to another port, which takes no credentials; with a log
//	Faulty   a registry of our own with one fault, of the table Faults
//
// Each listens on a free port of 127.0.0.1 and ends with its Close.
package registry
