// Why buildah failed, and whose fault it is: only what a retry may cure is the infrastructure's. The error is in the last lines of its standard
// error, from `Error:` on, and in what its runtime printed before.
import type { Failure } from '../../record.ts';

interface FailedCommand {
  /** Buildah's own error, on one line; empty if there is none. */
  readonly errorText: string;
  /** How it ended, such as `exit code 125`. */
  readonly end: string;
}

interface FailedBuild extends FailedCommand {
  readonly platform: string;
  /** The current instruction; absent before the first. */
  readonly instruction: string | undefined;
  /** Why the runtime could not start it; empty if it did. */
  readonly runtimeFault?: string;
}

const REASON_LENGTH = 300;
const COMMAND_LENGTH = 100;

/** Final answers of a registry. */
const REQUEST = [
  /manifest unknown|name unknown|unauthorized|denied|authentication required|invalid username\/password/,
  /(?:status code|status:?|HTTP status:?) 4(?!08|25|29)\d\d\b/,
];

const INFRASTRUCTURE = [
  /connection (?:refused|reset|closed)|broken pipe|unexpected EOF|: EOF$|server closed/i,
  /no such host|i\/o timeout|deadline exceeded|TLS handshake|x509:|HTTP response to HTTPS client|server misbehaving/i,
  /(?:status code|status:?|HTTP status:?) (?:5\d\d|408|425|429)\b|toomanyrequests|too many requests/i,
  /no space left on device|cannot allocate memory|input\/output error|too many open files/,
  /user namespace|unshare\(|newuidmap|newgidmap|netavark|slirp4netns|pasta|setup network|setting up network/,
  /error (?:mounting|creating) (?:new )?(?:container|layer)|layer not known|image not known|locking/,
];

/** The runtime's error for a command that the image lacks, which is the step's fault. */
const MISSING = /exec: "|executable file/;

/** A failure of the Containerfile, unless it looks like one of the machine or a registry. */
export function describeBuildFailure({ errorText, end, platform, instruction, runtimeFault }: FailedBuild): Failure {
  const error = withoutStep(errorText, instruction);
  if (runtimeFault && /while running runtime: exit status \d+$/.test(errorText)) {
    const isMissing = MISSING.test(runtimeFault);
    return {
      kind: isMissing ? 'build' : 'infrastructure',
      reason: cut(isMissing ? runtimeFault : `buildah cannot run a step here: ${runtimeFault}`),
      platform,
      ...(instruction !== undefined && { step: instruction }),
    };
  }
  const isOver = errorText.startsWith('building at STEP') && EXIT.test(error);
  return {
    kind: isOver ? 'build' : kindOf(error, errorText === '' ? 'infrastructure' : 'build'),
    reason: describe(error, instruction) || `buildah ended with ${end}`,
    platform,
    ...(instruction !== undefined && { step: instruction }),
  };
}

/** A failure of the registry, unless it refuses us: with the same credentials it would again. */
export function describePushFailure({ errorText, end }: FailedCommand): Failure {
  const reason = cut(
    errorText.replace(/^[^"]*pushing (?:image|manifest list) "[^"]*" to "(?:docker:\/\/)?([^"]*)": /, 'push to $1: '),
  );
  return { kind: kindOf(errorText, 'infrastructure'), reason: reason || `the push ended with ${end}` };
}

function kindOf(error: string, otherwise: Failure['kind']): Failure['kind'] {
  if (REQUEST.some(pattern => pattern.test(error))) return 'build';
  return INFRASTRUCTURE.some(pattern => pattern.test(error)) ? 'infrastructure' : otherwise;
}

const EXIT = /^(?:while running runtime: )?exit status (\d+)$/;

function withoutStep(complaint: string, instruction: string | undefined): string {
  const prefix = `building at STEP "${instruction}": `;
  if (complaint.startsWith(prefix)) return complaint.slice(prefix.length);
  return complaint.replace(/^building at STEP ".*?": /, '');
}

function describe(error: string, instruction = 'the step'): string {
  const [, code] = EXIT.exec(error) ?? [];
  if (code !== undefined) return `"${cut(instruction, COMMAND_LENGTH)}" ended with exit code ${code}`;
  return cut(
    error
      .replace(/checking on sources under "[^"]*": (?:copier: stat: )?/, '')
      .replace(/^creating build container: (?:initializing source )?/, ''),
  );
}

function cut(text: string, length = REASON_LENGTH): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}

interface ErrorReader {
  read(line: string): void;
  /** Forgets what was read: the build continues. */
  reset(): void;
  /** The error on one line, without `Error:`; empty if there is none. */
  find(): string;
}

const RUNTIME = /^error running container: (?:from (\S+) )?(?:creating container for \[[^\]]*\]: )?(.*)$/;

/** Reads why the runtime could not start a step. A step that prints the same only causes a retry. */
export function createRuntimeErrorReader(): ErrorReader {
  let text = '';
  return {
    read(line) {
      const [, runtime = 'the runtime', said = ''] = RUNTIME.exec(line.slice(0, MAX_LENGTH)) ?? [];
      if (said !== '') text = `${runtime}: ${said.replace(/: exit status \d+$/, '')}`;
    },
    reset() {
      text = '';
    },
    find: () => text.trim(),
  };
}

const PREFIX = 'Error: ';
const MAX_LENGTH = 4_000;

/** Reads buildah's own error. Steps may print the same, but buildah's comes last. */
export function createErrorReader(): ErrorReader {
  let text = '';
  return {
    read(line) {
      if (line.startsWith(PREFIX)) text = line.slice(PREFIX.length, MAX_LENGTH);
      else if (text !== '') text = `${text} ${line}`.slice(0, MAX_LENGTH);
    },
    reset() {
      text = '';
    },
    find: () => text.replace(/\s+/g, ' ').trim(),
  };
}
