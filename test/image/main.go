// Command image makes one of the test images and prints its directory:
//
//	image NAME        in the cache, made once
//	image NAME DIR    copied to DIR, which must not exist
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/dlrun/dlrun/test/internal/image"
)

func main() {
	if len(os.Args) != 2 && len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: image NAME [DIR], NAME one of", strings.Join(image.Names(), ", "))
		os.Exit(2)
	}
	dir, err := image.Get(context.Background(), os.Args[1])
	if err == nil && len(os.Args) == 3 {
		err = os.CopyFS(os.Args[2], os.DirFS(dir))
		dir = os.Args[2]
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Println(dir)
}
