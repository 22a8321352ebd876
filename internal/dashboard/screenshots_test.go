package dashboard_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"taskflow/internal/servertest"

	"github.com/chromedp/chromedp"
)

var screenshots = flag.String("screenshots", "", "the folder that TestScreenshots leaves its pictures in")

// largest is how large a picture may be that is kept in the repository.
const largest = 300 << 10

// TestScreenshots takes the README's pictures; make screenshots keeps them.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	folder := *screenshots
	if folder == "" {
		folder = t.TempDir()
	}
	database := servertest.SQLite(t)
	s := servertest.Start(t, servertest.Options{Database: database})
	refund := demo(t, s.Client)
	spread(t, database, 14*time.Minute)
	p := newTab(t, chromium(t), s.URL, 1280)
	for _, c := range []struct {
		name, hash, ready, theme string
		width, height            int64
	}{
		{"overview", "#/", `!!pick(".plot .line") && !!pick(".waits a") && !!pick(".bars a")`, "light", 1280, 900},
		{"overview-dark", "#/", `!!pick(".plot .line") && !!pick(".waits a") && !!pick(".bars a")`, "dark", 1280, 900},
		{"overview-phone", "#/", `!!pick(".plot .line") && !!pick(".waits a") && !!pick(".bars a")`, "light", 360, 1500},
		{"list", "#/flows", `!!pick(".flows tbody tr")`, "light", 1280, 900},
		{"list-dark", "#/flows?status=waiting&status=running&label=team:commerce", `!!pick(".flows tbody tr")`, "dark", 1280, 700},
		{"list-phone", "#/flows", `!!pick(".flows tbody tr")`, "dark", 360, 900},
		{"flow", "#/flows/" + refund, `!!pick(".timeline li") && !!pick(".steps .badge") && !!pick(".conditions") && !!pick(".edge.taken")`, "light", 1280, 1500},
		{"flow-dark", "#/flows/" + refund, `!!pick(".timeline li") && !!pick(".steps .badge") && !!pick(".conditions") && !!pick(".edge.taken")`, "dark", 1280, 1100},
		{"flow-phone", "#/flows/" + refund, `!!pick(".timeline li") && !!pick(".steps .badge") && !!pick(".conditions") && !!pick(".edge.taken")`, "light", 360, 2400},
	} {
		p.theme(c.theme)
		p.size(c.width, c.height)
		p.open(c.hash)
		p.await(c.ready + ` && document.getElementById("connection").dataset.state === "connected"`)
		picture := run(p, chromedp.CaptureScreenshot())
		if len(picture) > largest {
			t.Errorf("%s has %d bytes", c.name, len(picture))
		}
		if err := os.WriteFile(filepath.Join(folder, c.name+".png"), picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
