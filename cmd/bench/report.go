package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
)

// report is what a run has found out so far.
type report struct{ rows []row }

// row is a line of the table: a figure of both sides.
type row struct {
	name         string
	unit         string
	other, value string // other is empty if there is no such figure
	ratio        string
	goal         string
}

// compare adds a figure of both sides and their ratio.
func (r *report) compare(name, key, unit string, raw, tunnel float64, goal string) {
	r.rows = append(r.rows, row{name, unit, digits(raw), digits(tunnel), fmt.Sprintf("%.2f", tunnel/raw), goal})
	tell(key, tunnel/raw)
}

// compareStock adds the means of many goodputs in Mbit/s where the other side
// is not raw, with the standard error of their ratio; stock[i] and tunnel[i]
// had the same losses.
func (r *report) compareStock(name, key string, stock, tunnel []float64, goal string) {
	r.compare(name, key, "Mbit/s", mean(stock), mean(tunnel), goal)
	last := &r.rows[len(r.rows)-1]
	last.other += " (stock)"
	last.ratio += fmt.Sprintf(" ±%.2f", ratioError(stock, tunnel))
}

// comparePlain adds a figure where the other side is not raw but a SOCKS5 proxy
// without a tunnel. The value has a line of its own beside that of the ratio.
func (r *report) comparePlain(name, key, unit string, plain, tunnel float64, goal string) {
	r.compare(name, key+"_vs_plain", unit, plain, tunnel, goal)
	r.rows[len(r.rows)-1].other += " (plain)"
	tell(key, tunnel)
}

// compareSSH adds a figure where the other side is not raw but ssh -D.
func (r *report) compareSSH(name, key, unit string, ssh, tunnel float64, goal string) {
	r.compare(name, key, unit, ssh, tunnel, goal)
	r.rows[len(r.rows)-1].other += " (ssh)"
}

// absolute adds a figure that has no counterpart on the raw side.
func (r *report) absolute(name, key, unit string, value float64, goal string) {
	r.rows = append(r.rows, row{name: name, unit: unit, value: digits(value), goal: goal})
	tell(key, value)
}

// tell prints a line that scripts read.
func tell(key string, value float64) { fmt.Printf("ratio %s %.4g\n", key, value) }

// digits is a value with as many digits as it deserves.
func digits(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// write prints the table.
func (r *report) write(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\nfigure\traw\tsstproxy\tunit\tratio\tgoal")
	for _, row := range r.rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", row.name, row.other, row.value, row.unit, row.ratio, row.goal)
	}
	t.Flush()
}

// progress says on standard error what is going on.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
