package main

import (
	"github.com/spf13/cobra"

	"github.com/dlrun/dlrun/layout"
)

// lookFlags are those of the verbs that run nothing and look at one image.
type lookFlags struct {
	image  imageFlags
	get    getFlags
	store  storeFlags
	speech speechFlags
}

func (f *lookFlags) register(c *cobra.Command) {
	fs := c.Flags()
	f.image.register(fs)
	f.get.register(fs)
	f.store.register(fs)
	f.speech.register(fs)
}

// open finds the image, whatever platform it is for where there is no choice, and returns what ends the search for its
// blobs. Without fetch, what is missing of an image that lies here stays missing.
func (f *lookFlags) open(c *cobra.Command, ref string, fetch bool) (*layout.Image, func(), error) {
	if err := fillFlags(c.Flags(), configFiles()); err != nil {
		return nil, nil, err
	}
	pick, err := f.image.options()
	if err != nil {
		return nil, nil, err
	}
	pick.Foreign = true
	f.store.limits = f.image.limits.unpack
	bar := newProgress(f.speech.quiet, ref)
	get, err := f.get.getter(ref, &f.store, &f.speech, bar)
	if err != nil {
		return nil, nil, err
	}
	get.never = get.never || !fetch && !layout.IsRemote(ref)
	img, err := get.open(c.Context(), ref, pick)
	bar.done()
	if err != nil {
		get.close()
		return nil, nil, err
	}
	return img, get.close, nil
}
