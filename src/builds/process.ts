// Child processes of builds, each in a process group of its own, so that everything a command started ends with it. They see only a part of
// the service's environment, since the rest may hold secrets.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { kill } from 'node:process';
import { stripVTControlCharacters } from 'node:util';
import { BackendUnavailable } from './execution.ts';

export interface ProcessOptions {
  /** The whole environment, from childEnvironment. Secrets are in files or here, never in arguments, which every user can read. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Standard input; default: empty. */
  readonly input?: string | Uint8Array;
  readonly signal: AbortSignal;
  /** Called with each line of output. If it throws, the command is ended, and that error thrown. */
  readonly onLine?: (line: string, from: OutputName) => void;
  /** In UTF-16 units; a longer line is truncated. */
  readonly maxLineLength?: number;
  /** The time between SIGTERM and SIGKILL, and for processes left behind to close its output. */
  readonly graceMs?: number;
}

export type OutputName = 'stdout' | 'stderr';

export interface ProcessEnd {
  /** Undefined if a signal ended it. */
  readonly code: number | undefined;
  readonly endedBy: NodeJS.Signals | undefined;
}

export const LINE_LENGTH = 16_384;

const GRACE_MS = 5_000;

/**
 * Runs a command to its end; a non-zero exit code is no error. Throws BackendUnavailable where it cannot be started. On abort its group
 * gets SIGTERM, then SIGKILL, and the signal's reason is thrown once it is gone. Processes that it left in its group are killed.
 */
export async function runProcess(
  command: string,
  args: readonly string[],
  options: ProcessOptions,
): Promise<ProcessEnd> {
  const { env, cwd, input = '', graceMs = GRACE_MS } = options;
  options.signal.throwIfAborted();
  const child = spawn(command, args, { env, ...(cwd && { cwd }), detached: true });
  const ended = watchEnd(child);
  // An error thrown while output is handled has no other catcher.
  const fault = new AbortController();
  readLines(child, options, error => fault.abort(error));
  const signal = AbortSignal.any([options.signal, fault.signal]);
  // A process that does not read its input closes it: its exit code says more than the broken pipe.
  child.stdin.on('error', () => undefined).end(input);
  const pid = await started(child, command);
  const abort = () => endGroup(child, pid, { graceMs });
  signal.addEventListener('abort', abort);
  child.once('exit', () => (signal.aborted ? undefined : endGroup(child, pid, { graceMs, isOver: true })));
  if (signal.aborted) abort();
  const end = await ended;
  signal.removeEventListener('abort', abort);
  signalGroup(pid, 'SIGKILL');
  signal.throwIfAborted();
  return end;
}

/** Resolves when the process has ended and its output is closed. */
function watchEnd(child: ChildProcessWithoutNullStreams): Promise<ProcessEnd> {
  return new Promise(resolve => {
    child.once('close', (code, endedBy) => resolve({ code: code ?? undefined, endedBy: endedBy ?? undefined }));
  });
}

function readLines(
  child: ChildProcessWithoutNullStreams,
  { onLine, maxLineLength = LINE_LENGTH }: ProcessOptions,
  onFault: (error: unknown) => void,
): void {
  const guard = (work: () => void) => {
    try {
      work();
    } catch (error) {
      onFault(error);
    }
  };
  for (const from of ['stdout', 'stderr'] as const) {
    const lines = createLineSplitter(line => guard(() => onLine?.(line, from)), maxLineLength);
    child[from].on('data', chunk => lines.write(chunk)).on('close', () => lines.end());
  }
}

async function started(child: ChildProcessWithoutNullStreams, command: string): Promise<number> {
  try {
    await once(child, 'spawn');
  } catch (cause) {
    const code = codeOf(cause);
    const reason = code === 'ENOENT' ? 'no such command; is it installed, and in PATH?' : code;
    throw new BackendUnavailable(`${command} cannot be started: ${reason}`, { cause });
  }
  if (child.pid === undefined) throw new BackendUnavailable(`${command} cannot be started`);
  return child.pid;
}

function endGroup(
  child: ChildProcessWithoutNullStreams,
  pid: number,
  { graceMs, isOver = false }: { readonly graceMs: number; readonly isOver?: boolean },
): void {
  signalGroup(pid, isOver ? 'SIGKILL' : 'SIGTERM');
  const timer = setTimeout(() => {
    signalGroup(pid, 'SIGKILL');
    // A process that left the group may hold the output open for ever.
    child.stdout.destroy();
    child.stderr.destroy();
  }, graceMs);
  child.once('close', () => clearTimeout(timer));
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    kill(-pid, signal);
  } catch (error) {
    // It is gone, or the rest of it belongs to another user.
    if (!['ESRCH', 'EPERM'].includes(codeOf(error))) throw error;
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

const MAX_LENGTH = 4 * 1024 * 1024;
const COMPLAINT_LENGTH = 400;

export type ReadOptions = Omit<ProcessOptions, 'onLine'> & { readonly timeoutMs: number };

/**
 * The standard output of a command. Throws BackendUnavailable where it cannot be started, ends with a code other than 0 (then with the
 * last line of its standard error), prints more than 4 Mi characters or does not end within `timeoutMs`; else the signal's reason.
 */
export async function readProcess(command: string, args: readonly string[], options: ReadOptions): Promise<string> {
  const { timeoutMs } = options;
  const late = AbortSignal.timeout(timeoutMs);
  try {
    return await read(command, args, { ...options, signal: AbortSignal.any([options.signal, late]) });
  } catch (error) {
    if (error !== late.reason) throw error;
    throw new BackendUnavailable(`${command} does not answer within ${timeoutMs} ms`, { cause: error });
  }
}

async function read(command: string, args: readonly string[], options: ProcessOptions): Promise<string> {
  const tooLong = new AbortController();
  const signal = AbortSignal.any([options.signal, tooLong.signal]);
  let output = '';
  let complaint = '';
  const onLine: ProcessOptions['onLine'] = (line, from) => {
    if (from === 'stderr') complaint = line.trim() || complaint;
    else output += `${line}\n`;
    if (output.length <= MAX_LENGTH) return;
    output = '';
    tooLong.abort(new BackendUnavailable(`${command} prints more than ${MAX_LENGTH} characters`));
  };
  const { code, endedBy } = await runProcess(command, args, { maxLineLength: MAX_LENGTH, ...options, signal, onLine });
  if (code === 0) return output;
  const said = stripVTControlCharacters(complaint).slice(0, COMPLAINT_LENGTH);
  throw new BackendUnavailable(`${command} failed: ${said || (endedBy ?? `exit code ${code}`)}`);
}

export type Environment = Readonly<Record<string, string | undefined>>;

const PASSED = [
  ...['PATH', 'TMPDIR', 'LANG', 'LC_ALL', 'XDG_RUNTIME_DIR', 'SSL_CERT_FILE', 'SSL_CERT_DIR'],
  ...['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'ALL_PROXY', 'http_proxy', 'https_proxy', 'no_proxy', 'all_proxy'],
] as const;

/** The variables on the list, overridden by `own`: HOME, DOCKER_CONFIG and whatever else the command needs. */
export function childEnvironment(environment: Environment, own: Environment): Readonly<Record<string, string>> {
  const passed = PASSED.map(name => [name, environment[name]] as const);
  const entries = [...passed, ...Object.entries(own)];
  return Object.fromEntries(entries.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}

// Splits a stream of bytes into lines of text. Memory is bounded by the maximum length of a line, beyond which text is dropped.

export interface LineSplitter {
  write(chunk: Uint8Array): void;
  /** Emits the rest after the last line break, if there is any. */
  end(): void;
}

/**
 * `onLine` gets each line without its break (LF or CRLF), as a terminal would finally show it: of a line redrawn by CR, the last version. A
 * line longer than `maxLength` UTF-16 units is truncated, and ends with `…`.
 */
export function createLineSplitter(onLine: (line: string) => void, maxLength: number): LineSplitter {
  const decoder = new TextDecoder();
  let line = '';

  function add(text: string): void {
    // One unit over the limit is enough to know that the line is too long.
    line += text.slice(0, maxLength + 1 - line.length);
  }

  function flush(): void {
    onLine(line.length > maxLength ? `${line.slice(0, maxLength)}…` : lastVersion(line));
    line = '';
  }

  function write(text: string): void {
    const [rest = '', ...following] = text.split('\n');
    add(rest);
    for (const next of following) {
      flush();
      add(next);
    }
  }

  return {
    write: chunk => write(decoder.decode(chunk, { stream: true })),
    end() {
      write(decoder.decode());
      if (line !== '') flush();
    },
  };
}

function lastVersion(line: string): string {
  return line.split('\r').findLast(version => version !== '') ?? '';
}
