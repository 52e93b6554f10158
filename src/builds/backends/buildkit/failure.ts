// Why BuildKit failed, and whose fault it is: only what a retry may cure is the infrastructure's.
import { describeDeniedImage } from '../../needs.ts';
import type { Failure } from '../../record.ts';
import type { FailedStep } from './steps.ts';

interface FailedRun {
  readonly step: FailedStep | undefined;
  /** The client's own last error; empty if there is none. */
  readonly errorText: string;
  /** How the client ended, such as `exit code 1`. */
  readonly end: string;
}

const REASON_LENGTH = 300;
const COMMAND_LENGTH = 100;

/** A failed step or a faulty request, whatever else the text holds. */
const REQUEST = [
  /did not complete successfully: exit code: \d+/,
  /dockerfile parse error/,
  /^(?!.*\blease\b).*: not found$/,
  /insufficient_scope|failed to authorize|authorization failed|pull access denied/,
];

const INFRASTRUCTURE = [
  /transport|connection (?:error|refused|reset|closed)|closed network connection|broken pipe|EOF$|error reading from server/i,
  /i\/o timeout|deadline exceeded|TLS handshake|x509:|server misbehaving|temporary failure/i,
  /too many requests/i,
  /no space left on device|cannot allocate memory|input\/output error/,
  /rpc error: code = (?:Unavailable|Internal|DeadlineExceeded|ResourceExhausted)|\bUnavailable:/,
  /no active session|inconsistent graph state/,
];

export function describeFailure({ step, errorText, end }: FailedRun): Failure {
  const said = errorText.replace(/^error: (?:failed to solve: )?/i, '');
  const error = step?.error ?? said;
  const { platform, instruction } = step ?? {};
  return {
    kind: kindOf(error, step !== undefined || /^error: failed to solve/i.test(errorText)),
    reason: shorten(nameBase(instruction, error)) || `the builder ended with ${end}`,
    ...(platform !== undefined && { platform }),
    ...(instruction !== undefined && { step: instruction }),
  };
}

function kindOf(error: string, wasSolving: boolean): Failure['kind'] {
  const status = statusIn(error);
  if (REQUEST.some(pattern => pattern.test(error)) || status === 'refused') return 'build';
  if (INFRASTRUCTURE.some(pattern => pattern.test(error)) || status === 'transient') return 'infrastructure';
  if (/not found/.test(after(error, 'lease '))) return 'infrastructure';
  return wasSolving ? 'build' : 'infrastructure';
}

/** Wrong credentials stay wrong: a registry's 4xx is final, except for those that ask to retry. */
function statusIn(error: string): 'refused' | 'transient' | undefined {
  const [, status] = /: ([45]\d\d) /.exec(after(error, 'unexpected status')) ?? [];
  if (status === undefined) return undefined;
  return status.startsWith('5') || TRANSIENT.includes(status) ? 'transient' : 'refused';
}

const TRANSIENT: readonly string[] = ['408', '425', '429'];

function after(text: string, word: string): string {
  const at = text.indexOf(word);
  return at < 0 ? '' : text.slice(at + word.length);
}

/** BuildKit's error does not always name the base image. */
function nameBase(instruction: string | undefined, error: string): string {
  const base = instruction?.startsWith('FROM ') ? instruction.slice('FROM '.length) : '';
  return error.includes(base) ? error : `${base}: ${error}`;
}

function shorten(error: string): string {
  const line = error
    .replace(/\s+/g, ' ')
    .replace(/^failed to compute cache key: /, '')
    .replace(/failed to calculate checksum of ref \S+: /, '')
    .trim();
  const [, image] = /^.*source "docker-image:\/\/([^\s"]+)" denied by policy/.exec(line) ?? [];
  if (image !== undefined) return cut(describeDeniedImage(image), REASON_LENGTH);
  const [, command, code] = /^process "(.*)" did not complete successfully: exit code: (\d{1,10})/.exec(line) ?? [];
  if (command !== undefined) return `"${cut(command, COMMAND_LENGTH)}" ended with exit code ${code}`;
  return cut(line, REASON_LENGTH);
}

function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}
