package logs

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"time"
)

//go:embed report.html
var pageSource string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"stamp": stamp, "percent": percent, "actions": func() []string { return actionOrder },
}).Parse(pageSource))

// A pageView is what the page shows: the report and its charts, drawn in units of the SVG's viewBox.
type pageView struct {
	*Report
	Series     []bar
	Histogram  []bar
	Thresholds []mark
	Daily      bool
}

// A bar is one rectangle of a chart.
type bar struct {
	X, Y, W, H float64
	Class      string
	Title      string
}

// A mark is a threshold in the histogram.
type mark struct {
	X     float64
	Label string
}

// Size of the charts' viewBox.
const (
	chartWidth  = 800.0
	chartHeight = 200.0
)

// maxBars bounds the time series; a longer one is drawn by the day, then the last ones only.
const maxBars = 400

// WriteHTML writes the report as one page that needs nothing from elsewhere. Light or dark is the reader's choice.
func (r *Report) WriteHTML(w io.Writer) error {
	v := pageView{Report: r}
	hours := r.Hours
	step := time.Hour
	if len(hours) > 0 && hours[len(hours)-1].Hour.Sub(hours[0].Hour) > maxBars/2*time.Hour {
		hours, step, v.Daily = daily(hours), 24*time.Hour, true
	}
	v.Series = drawSeries(hours, step)
	v.Histogram, v.Thresholds = drawScores(r.Scores, r.Limits)
	if err := page.Execute(w, v); err != nil {
		return fmt.Errorf("cannot write the page: %w", err)
	}
	return nil
}

func daily(hours []Hour) []Hour {
	var days []Hour
	for _, h := range hours {
		day := h.Hour.Truncate(24 * time.Hour)
		if len(days) == 0 || !days[len(days)-1].Hour.Equal(day) {
			days = append(days, Hour{Hour: day, Actions: make(map[string]int)})
		}
		for a, n := range h.Actions {
			days[len(days)-1].Actions[a] += n
		}
	}
	return days
}

// drawSeries stacks the actions of each step of time.
func drawSeries(hours []Hour, step time.Duration) []bar {
	hours = hours[max(0, len(hours)-maxBars):]
	if len(hours) == 0 {
		return nil
	}
	most := 1
	for _, h := range hours {
		sum := 0
		for _, n := range h.Actions {
			sum += n
		}
		most = max(most, sum)
	}
	first := hours[0].Hour
	steps := float64(hours[len(hours)-1].Hour.Sub(first)/step + 1)
	var bars []bar
	for _, h := range hours {
		y := chartHeight
		for _, a := range actionOrder {
			if n := h.Actions[a]; n > 0 {
				height := chartHeight * float64(n) / float64(most)
				y -= height
				bars = append(bars, bar{
					X: chartWidth * float64(h.Hour.Sub(first)/step) / steps, Y: y, W: chartWidth / steps * 0.9, H: height,
					Class: a, Title: fmt.Sprintf("%s: %d %s", stamp(h.Hour), n, a),
				})
			}
		}
	}
	return bars
}

// drawScores draws how many messages have which score, and the thresholds among them.
func drawScores(scores []ScoreStep, limits []Limit) (bars []bar, marks []mark) {
	if len(scores) == 0 {
		return nil, nil
	}
	low, high, most := scores[0].From, scores[len(scores)-1].From+1, 1
	for _, s := range scores {
		most = max(most, s.Messages)
	}
	width := chartWidth / float64(high-low)
	for _, s := range scores {
		height := chartHeight * float64(s.Messages) / float64(most)
		bars = append(bars, bar{
			X: width * float64(s.From-low), Y: chartHeight - height, W: width * 0.9, H: height,
			Class: "score", Title: fmt.Sprintf("%d to %d: %d messages", s.From, s.From+1, s.Messages),
		})
	}
	for _, l := range limits {
		if x := width * (l.Score - float64(low)); x >= 0 && x <= chartWidth {
			marks = append(marks, mark{X: x, Label: fmt.Sprintf("%s at %g", l.Action, l.Score)})
		}
	}
	return bars, marks
}
