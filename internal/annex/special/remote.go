package special

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxLine bounds a line of the protocol. A path has at most 4 KiB, a URL hardly more.
const maxLine = 1 << 20

// Remote is one process of the special remote.
type Remote struct {
	In    io.Reader // git-annex, which closes it when it is done
	Out   io.Writer
	Blobs Blobs
}

// Serve answers requests until git-annex closes In, and returns nil then. An error means that the two sides do not
// understand each other any more; git-annex has been told. What a request could not do is an answer, not an error.
func (r *Remote) Serve(ctx context.Context) error {
	s := &session{ctx: ctx, in: bufio.NewScanner(r.In), out: bufio.NewWriter(r.Out), blobs: r.Blobs}
	s.in.Buffer(nil, maxLine)
	err := s.serve()
	var lost *lostError
	if errors.As(err, &lost) && !lost.told {
		_ = s.send("ERROR", oneLine(err)) // it may be gone
	}
	return err
}

// session is the talk with git-annex.
type session struct {
	ctx   context.Context
	in    *bufio.Scanner
	out   *bufio.Writer
	blobs Blobs
	set   Settings
	info  bool // git-annex shows INFO messages
}

// lostError ends the talk.
type lostError struct {
	err  error
	told bool // by git-annex itself
}

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

func lost(format string, args ...any) error { return &lostError{err: fmt.Errorf(format, args...)} }

func (s *session) serve() error {
	if err := s.send("VERSION", "1"); err != nil {
		return err
	}
	for {
		line, err := s.receive()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.answer(line); err != nil {
			return err
		}
	}
}

// answer performs one request. It is the one place where an error becomes an answer.
func (s *session) answer(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	r, known := requests[word]
	if !known {
		return s.send("UNSUPPORTED-REQUEST")
	}
	var params []string
	if r.params > 0 {
		params = strings.SplitN(rest, " ", r.params)
	}
	if len(params) < r.params {
		return lost("%s needs %d parameters: %q", word, r.params, line)
	}
	replies, err := r.do(s, params)
	var ends *lostError
	if errors.As(err, &ends) {
		return err
	}
	if err != nil {
		return s.send(append(append([]string{r.failed}, params[:r.echoed]...), oneLine(err))...)
	}
	for _, reply := range replies {
		if err := s.send(reply...); err != nil {
			return err
		}
	}
	return nil
}

// send writes one message and hands it over.
func (s *session) send(words ...string) error {
	s.out.WriteString(strings.Join(words, " "))
	s.out.WriteByte('\n')
	if err := s.out.Flush(); err != nil {
		return lost("write to git-annex: %w", err)
	}
	return nil
}

// receive reads one message.
func (s *session) receive() (string, error) {
	if s.in.Scan() {
		return s.in.Text(), nil
	}
	if err := s.in.Err(); err != nil {
		return "", lost("read from git-annex: %w", err)
	}
	return "", io.EOF
}

// value reads a VALUE, the answer to a question of ours.
func (s *session) value() (string, error) {
	line, err := s.receive()
	if err == io.EOF {
		return "", lost("git-annex ended in the middle of a request")
	}
	if err != nil {
		return "", err
	}
	word, value, _ := strings.Cut(line, " ")
	switch word {
	case "VALUE":
		return value, nil
	case "ERROR":
		return "", &lostError{fmt.Errorf("git-annex: %s", value), true}
	}
	return "", lost("want a VALUE from git-annex, got %q", line)
}

// config asks for a setting of the remote, empty when it has none.
func (s *session) config(name string) (string, error) {
	if err := s.send("GETCONFIG", name); err != nil {
		return "", err
	}
	return s.value()
}

// urls asks for the recorded URLs of a key.
func (s *session) urls(key string) ([]string, error) {
	if err := s.send("GETURLS", key, ""); err != nil {
		return nil, err
	}
	var list []string
	for {
		url, err := s.value()
		if err != nil || url == "" {
			return list, err
		}
		list = append(list, url)
	}
}

// tell says something to the user, where git-annex can.
func (s *session) tell(format string, args ...any) error {
	word := "DEBUG"
	if s.info {
		word = "INFO"
	}
	return s.send(word, oneLine(fmt.Errorf(format, args...)))
}

// oneLine is an error in the one line that a message has.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
