package corpus

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
)

// header is a tar header that archive/tar would refuse to write.
func header(name string, flag byte, linkname string, size int64) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x00")
	copy(b[116:], "0000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00", size))
	copy(b[136:], fmt.Sprintf("%011o\x00", 1_600_000_000))
	b[156] = flag
	copy(b[157:], linkname)
	copy(b[257:], "ustar\x0000")
	return checksum(b)
}

func checksum(b []byte) []byte {
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func padded(s string) []byte { return append([]byte(s), make([]byte, -len(s)&511)...) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// rawFile is a regular file whose name archive/tar would not write.
func rawFile(name, body string) entry {
	return file(name, body).written(join(header(name, tar.TypeReg, "", int64(len(body))), padded(body)))
}

// gnuLong is a file with a name, or a link with a target, in GNU tar's extra entries.
func gnuLong(flag byte, name, target, body string) entry {
	var b []byte
	if len(target) > 99 {
		b = append(b, join(header("././@LongLink", tar.TypeGNULongLink, "", int64(len(target)+1)), padded(target+"\x00"))...)
	}
	b = append(b, join(header("././@LongLink", tar.TypeGNULongName, "", int64(len(name)+1)), padded(name+"\x00"))...)
	b = append(b, join(header("short", flag, "short", int64(len(body))), padded(body))...)
	e := file(name, body)
	if flag == tar.TypeSymlink {
		e = link(name, target)
	}
	return e.written(b)
}

// paxRecords are records as in a pax header.
func paxRecords(records ...[2]string) string {
	var all strings.Builder
	for _, r := range records {
		rest := " " + r[0] + "=" + r[1] + "\n"
		n := len(rest) + 1
		for n != len(fmt.Sprint(n))+len(rest) {
			n = len(fmt.Sprint(n)) + len(rest)
		}
		fmt.Fprint(&all, n, rest)
	}
	return all.String()
}

// pax is a pax header with raw records, and the header that it speaks of.
func pax(records string, then []byte) []byte {
	return join(header("pax", tar.TypeXHeader, "", int64(len(records))), padded(records), then)
}

// The sparse files are all zeros but for text at the end.
func sparseBody(size int, text string) string { return strings.Repeat("\x00", size-len(text)) + text }

// sparsePax is pax format 1.0 of GNU tar; sparsePax0 is 0.1.
func sparsePax(name string, size int64, text string) []byte {
	data := fmt.Sprintf("1\n%d\n%d\n", size-int64(len(text)), len(text))
	return pax(paxRecords([2]string{"GNU.sparse.major", "1"}, [2]string{"GNU.sparse.minor", "0"}, [2]string{"GNU.sparse.name", name},
		[2]string{"GNU.sparse.realsize", fmt.Sprint(size)}),
		join(header("sparse", tar.TypeReg, "", int64(512+len(text))), padded(data), padded(text)))
}

func sparsePax0(name string, size int64, text string) []byte {
	return pax(paxRecords([2]string{"GNU.sparse.size", fmt.Sprint(size)}, [2]string{"GNU.sparse.numblocks", "1"}, [2]string{"GNU.sparse.name", name},
		[2]string{"GNU.sparse.map", fmt.Sprintf("%d,%d", size-int64(len(text)), len(text))}),
		join(header("sparse", tar.TypeReg, "", int64(len(text))), padded(text)))
}

// sparseOld is the old GNU format, with more fragments than the header holds.
func sparseOld(name string, size int64, text string, fragments int) []byte {
	b := header(name, tar.TypeGNUSparse, "", int64(len(text)))
	copy(b[257:], "ustar  \x00")
	clear(b[345:])
	each := len(text) / fragments
	var spans [][2]int64
	for i := range fragments {
		n := each
		if i == fragments-1 {
			n = len(text) - each*i
		}
		spans = append(spans, [2]int64{size - int64(len(text)) + int64(each*i), int64(n)})
	}
	put := func(b []byte, spans [][2]int64) {
		for i, s := range spans {
			copy(b[24*i:], fmt.Sprintf("%011o\x00%011o\x00", s[0], s[1]))
		}
	}
	put(b[386:], spans[:min(4, fragments)])
	copy(b[483:], fmt.Sprintf("%011o\x00", size))
	if fragments <= 4 {
		return join(checksum(b), padded(text))
	}
	b[482] = 1
	out := checksum(b)
	for spans = spans[4:]; len(spans) > 0; {
		more := make([]byte, 512)
		n := min(21, len(spans))
		put(more, spans[:n])
		if spans = spans[n:]; len(spans) > 0 {
			more[504] = 1
		}
		out = append(out, more...)
	}
	return append(out, padded(text)...)
}
