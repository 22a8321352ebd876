package dashboard_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"taskflow/internal/servertest"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/css"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// patience is how long a condition may take on a busy machine; none takes a tenth of it on an idle one.
const patience = 60 * time.Second

// TestMain ends the browser after the last test.
func TestMain(m *testing.M) {
	defer func() { stopBrowser() }()
	m.Run()
}

// browser is the Chromium that the tests share, started by the first of them: a tab has storage of its own.
var (
	browser     = sync.OnceValues(startBrowser)
	stopBrowser = func() {} // where none was started
)

// chromium is the context of the browser. It fails the test where there is none: see scripts/test-tools.
func chromium(t *testing.T) context.Context {
	t.Helper()
	b, err := browser()
	if err != nil {
		t.Fatalf("starting Chromium: %v", err)
	}
	return b
}

func startBrowser() (context.Context, error) {
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil && program == "" {
			program = found
		}
	}
	if program == "" {
		return nil, errors.New("there is none on this machine: run make test-tools")
	}
	profile, err := os.MkdirTemp("", "tfchromium")
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.DisableGPU, chromedp.UserDataDir(profile), chromedp.WSURLReadTimeout(patience),
		chromedp.Flag("lang", "en-US"), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("force-prefers-reduced-motion", true))
	// A window of a browser without windows has side panels and a search for tabs, which are loaded ahead.
	options = append(options, chromedp.Flag("disable-features", "Translate,BlinkGenPropertyTrees,PreloadTopChromeWebUI"))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, end := chromedp.NewContext(allocator)
	stopBrowser = func() {
		_ = chromedp.Cancel(ctx)
		end()
		stop()
		_ = os.RemoveAll(profile)
	}
	return ctx, chromedp.Do(ctx)
}

// tab is one page of the browser, with storage of its own. Its methods fail the test.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex
	mistakes []string
}

// newTab opens a tab of the given width for the server at base. At the test's end it fails where the page threw an error or
// broke its Content-Security-Policy.
func newTab(t *testing.T, browser context.Context, base string, width int64) *tab {
	t.Helper()
	p := &tab{t: t, base: base}
	ctx, end := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.listen))
	t.Cleanup(end)
	p.ctx = ctx
	if err := chromedp.Do(ctx); err != nil { // the tab lives as long as the context of its first run
		t.Fatalf("opening a tab: %v", err)
	}
	// What the tests look at is in the page: events of each request, node and style sheet would cost more than the page does.
	call(p, network.Disable, cdp.Empty{})
	call(p, css.Disable, cdp.Empty{})
	call(p, dom.Disable, cdp.Empty{})
	call(p, log.Enable, cdp.Empty{})
	// Several tabs are used at once, each as if it were in front.
	call(p, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: injected})
	p.size(width, 900)
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, mistake := range p.mistakes {
			t.Errorf("the page: %s", mistake)
		}
	})
	return p
}

// elsewhere has the tab open the pages of the server at base from now on.
func (p *tab) elsewhere(base string) *tab {
	p.base = base
	return p
}

// injected are functions for the tests' scripts, put into every document before its own scripts run.
const injected = `
	window.seen = (e) => e && e.checkVisibility({visibilityProperty: true}) && e.getClientRects().length > 0;
	// pick is the first visible element of a selector whose label or text has the given words.
	window.pick = (selector, words = "") => [...document.querySelectorAll(selector)].find((e) =>
		seen(e) && ((e.getAttribute("aria-label") ?? "") + " " + e.textContent).includes(words));
	window.text = (selector) => pick(selector)?.textContent.replace(/\s+/g, " ").trim() ?? "";
	// diffs are the differences a list shows: change, path, before, after.
	window.diffs = (list) => [...document.querySelectorAll(list + " .diff li")].map((e) => [e.className, e.querySelector(".path").textContent,
		e.querySelector("del")?.lastChild.textContent, e.querySelector("ins")?.lastChild.textContent].filter((part) => part !== undefined).join(" ")).join(" | ");
	window.all = (selector) => [...document.querySelectorAll(selector)].filter(seen).map((e) => e.textContent.replace(/\s+/g, " ").trim());`

func (p *tab) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.mistakes = append(p.mistakes, (&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			p.mistakes = append(p.mistakes, e.Entry.Text)
		}
	}
}

// TestTab_HearsOfMistakes plants an error and a script that the policy forbids: a tab hears of both.
func TestTab_HearsOfMistakes(t *testing.T) {
	t.Parallel()
	p := newTab(t, chromium(t), servertest.Start(t, onSQLite(t)).URL, 1280)
	p.open("#/flows")
	eval[bool](p, `(document.body.append(Object.assign(document.createElement("script"), {textContent: "0"})), setTimeout(() => { throw new Error("planted"); }), true)`)
	heard := func() string {
		p.mu.Lock()
		defer p.mu.Unlock()
		return strings.Join(p.mistakes, "\n")
	}
	if err := servertest.Await(p.ctx, patience, func() bool {
		return strings.Contains(heard(), "planted") && strings.Contains(heard(), "Content Security Policy")
	}); err != nil {
		t.Errorf("all that was heard of is %q", heard())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mistakes = nil
}

// run runs an action and returns its value.
func run[T any](p *tab, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	out, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatalf("%v\n%s", err, p.look())
	}
	return out
}

// call sends one command of the browser's protocol.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) {
	p.t.Helper()
	run(p, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	}))
}

// size sets the size of the window; one as narrow as a phone's behaves like one.
func (p *tab) size(width, height int64) {
	p.t.Helper()
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600})
}

// open loads an address of the dashboard, #/flows say, from the start.
func (p *tab) open(hash string) {
	p.t.Helper()
	run(p, chromedp.Navigate("about:blank"))
	run(p, chromedp.Navigate(p.base+"/"+hash))
}

// eval evaluates an expression.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	return run(p, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// await waits until an expression is true. The page itself looks, for a second at a time: asking it again and again would take
// more of the machine than the page does.
func (p *tab) await(expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	looking := fmt.Sprintf(`(async () => {
		for (const end = Date.now() + 1000; ;) {
			let mistake;
			try { if (await (%s)) return true; } catch (error) { mistake = error; }
			if (Date.now() > end) { if (mistake) throw mistake; return false; }
			await new Promise((on) => setTimeout(on, 25));
		}
	})()`, expression)
	var last error
	err := servertest.Await(ctx, patience, func() bool {
		var is bool
		is, last = chromedp.Run(ctx, chromedp.Evaluate[bool](looking, chromedp.EvalAwaitPromise))
		return is
	})
	if err != nil {
		p.t.Fatalf("never true: %s (%v)\n%s", expression, last, p.look())
	}
}

// awaitText waits until a visible element of a selector has the given words.
func (p *tab) awaitText(selector, words string) {
	p.t.Helper()
	p.await(fmt.Sprintf("!!pick(%s, %s)", quote(selector), quote(words)))
}

// look tells what the page shows, for a test that fails.
func (p *tab) look() string {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	shown, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\nfocus: " + document.activeElement?.outerHTML.slice(0, 200) + "\n" + document.body.innerText`))
	if err != nil {
		return err.Error()
	}
	return shown[:min(len(shown), 4000)]
}

// spot is where to click on the first visible element of a selector that has the given words, once it is there and stands
// still, as somebody would aim who sees the page being filled, and nothing lies over it.
func (p *tab) spot(selector, words string) (x, y float64) {
	p.t.Helper()
	spot := fmt.Sprintf(`(() => {
		const e = pick(%s, %s);
		if (!e || e.disabled) return null;
		e.scrollIntoView({block: "center", inline: "nearest"});
		const box = [...e.getClientRects()].find((b) => b.width > 1);
		if (!box) return null;
		const x = box.left + box.width / 2, y = box.top + box.height / 2, top = document.elementFromPoint(x, y);
		return e === top || e.contains(top) || top?.closest("label") === e ? [x, y] : null;
	})()`, quote(selector), quote(words))
	still := fmt.Sprintf(`(async () => { // for a second at a time, as await does
		const look = () => %s;
		for (let end = Date.now() + 1000, before = null; Date.now() < end;) {
			const at = look();
			if (at && before && at[0] === before[0] && at[1] === before[1]) return at;
			before = at;
			await new Promise((drawn) => requestAnimationFrame(drawn));
		}
		return null;
	})()`, spot)
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	var at []float64
	var last error
	err := servertest.Await(ctx, patience, func() bool {
		at, last = chromedp.Run(ctx, chromedp.Evaluate[[]float64](still, chromedp.EvalAwaitPromise))
		return len(at) == 2
	})
	if err != nil {
		p.t.Fatalf("nothing to click: %s %q (%v)\n%s", selector, words, last, p.look())
	}
	return at[0], at[1]
}

// click clicks with the mouse on the first visible element of a selector that has the given words.
func (p *tab) click(selector, words string) {
	p.t.Helper()
	x, y := p.spot(selector, words)
	run(p, chromedp.MouseClickXY(x, y))
}

// fill replaces what is in a field, by typing.
func (p *tab) fill(selector, words string) {
	p.t.Helper()
	p.click(selector, "")
	p.await(fmt.Sprintf("document.activeElement === pick(%s)", quote(selector)))
	eval[bool](p, "(document.activeElement.select(), true)")
	if words == "" {
		p.press("\b")
		return
	}
	call(p, input.InsertText, input.InsertTextParams{Text: words})
}

// choose picks an option of a <select>.
func (p *tab) choose(selector, value string) {
	p.t.Helper()
	p.await(fmt.Sprintf("!!pick(%s)", quote(selector)))
	eval[bool](p, fmt.Sprintf(`(() => { const e = pick(%s); e.value = %s; e.dispatchEvent(new Event("change", {bubbles: true})); return true; })()`, quote(selector), quote(value)))
}

// press types keys one by one, each as one event of the keyboard: what the page prevents is not typed.
func (p *tab) press(keys string) {
	p.t.Helper()
	for _, key := range keys {
		events := kb.Encode(key)
		for _, event := range events {
			if event.Type == kb.KeyChar {
				events[0].Text = event.Text
			}
		}
		for _, event := range events {
			if event.Type != kb.KeyChar {
				call(p, input.DispatchKeyEvent, *event)
			}
		}
	}
}

// theme asks for light or dark as the system would.
func (p *tab) theme(name string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

func quote(text string) string {
	out, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string always can
	}
	return string(out)
}

// value reads a member of an answer's body.
func value(t *testing.T, a servertest.Answer, name string) string {
	t.Helper()
	var members map[string]any
	if err := a.Decode(&members); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(fmt.Sprint(members[name]))
}
