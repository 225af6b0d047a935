// Command screenshots takes pictures of the Web UIs of a running demo, for the README. It needs Chromium, and nothing of this
// project: what to look at comes in as arguments, a file and an address for each picture.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
)

const (
	width, height = 1440, 1000
	// within bounds a page's loading, and settled is how long it is left alone afterwards: both UIs draw after their last request.
	within  = 60 * time.Second
	settled = 6 * time.Second
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "screenshots: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, pages []string) error {
	if len(pages) == 0 {
		return errors.New("want FILE=URL for each picture")
	}
	// Chromium's sandbox needs rights that containers lack; the pages are this machine's own.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.WindowSize(width, height))
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	defer stop()
	for _, page := range pages {
		file, url, ok := strings.Cut(page, "=")
		if !ok {
			return fmt.Errorf("%q: want FILE=URL", page)
		}
		fmt.Println("picture of", url)
		if err := picture(ctx, file, url); err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
	}
	return nil
}

func picture(ctx context.Context, file, url string) error {
	ctx, stop := chromedp.NewContext(ctx)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := chromedp.Do(ctx, chromedp.EmulateViewport(width, height), chromedp.Navigate(url), chromedp.Sleep(settled))
	if err != nil {
		return err
	}
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return err
	}
	return os.WriteFile(file, png, 0o600)
}
