package main

import (
	"context"
	"math"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress says on standard error how far a long job is. Where that is not a
// terminal, and on a dumb one, it says nothing, so that logs and pipes hold no
// escape sequences.
type progress struct {
	bars *mpb.Progress
	bar  *mpb.Bar
}

// startProgress shows what is being done. Whoever starts it calls end before
// anything else is printed.
func (a *app) startProgress(ctx context.Context, what string) *progress {
	if !isTerminal(a.err) || a.getenv("TERM") == "dumb" {
		return &progress{}
	}
	bars := mpb.NewWithContext(ctx, mpb.WithOutput(a.err), mpb.WithAutoRefresh())
	return &progress{bars: bars, bar: bars.AddBar(0,
		mpb.PrependDecorators(decor.Name(clean(what)+" "), decor.CountersNoUnit("%d / %d")),
		mpb.AppendDecorators(decor.Percentage(), decor.Name("  "), decor.AverageETA(decor.ET_STYLE_GO)),
	)}
}

// at says how much is done of how much. It may be called by any goroutine and
// as often as there is something to say.
func (p *progress) at(done, total uint64) {
	if p.bar == nil {
		return
	}
	p.bar.SetTotal(bounded(total), false)
	p.bar.SetCurrent(bounded(done))
}

// end takes the bar off the terminal: what came of the job is said elsewhere.
func (p *progress) end() {
	if p.bar == nil {
		return
	}
	p.bar.Abort(true)
	p.bars.Wait()
}

func bounded(n uint64) int64 {
	return int64(min(n, math.MaxInt64))
}
