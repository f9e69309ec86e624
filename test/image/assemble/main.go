// Command assemble makes images of services without a container engine, as
// archives for `docker load`, and says what each weighs.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/selfheal/selfheal/test/image"
)

func main() {
	version := flag.String("version", "dev", "the version that the binaries say, and the images' tag")
	commit := flag.String("commit", "unknown", "the commit that the binaries say")
	to := flag.String("to", ".", "folder for the archives")
	flag.Parse()
	for _, service := range flag.Args() {
		if err := assemble(context.Background(), service, *version, *commit, *to); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", service, err)
			os.Exit(1)
		}
	}
}

func assemble(ctx context.Context, service, version, commit, to string) error {
	recipe, err := image.Read("Dockerfile")
	if err != nil {
		return err
	}
	tag, err := name.NewTag("ghcr.io/selfheal/" + service + ":" + version)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	img, err := recipe.Make(ctx, image.Options{Root: ".", Dir: dir, Args: map[string]string{"SERVICE": service, "VERSION": version, "COMMIT": commit}})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	archive := filepath.Join(to, service+".tar")
	if err := tarball.WriteToFile(archive, tag, img); err != nil {
		return err
	}
	bytes, err := image.Weight(img)
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s  %.1f MiB to pull  %s  %s\n", archive, float64(bytes)/(1<<20), tag, digest)
	return nil
}
