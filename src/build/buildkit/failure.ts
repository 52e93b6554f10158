// Why a build of BuildKit's came to nothing, and whose fault it is: only what another attempt may cure is the infrastructure's.
import { mayNotRead } from '../read-images.ts';
import type { Failure } from '../record.ts';
import type { FailedStep } from './steps.ts';

export interface FailedRun {
  readonly step: FailedStep | undefined;
  /** What the client said last; empty where it said nothing. */
  readonly complaint: string;
  /** How the client ended, such as `exit code 1`. */
  readonly end: string;
}

const REASON_LENGTH = 300;
const COMMAND_LENGTH = 100;

/** What ends a step or names a fault of the request, whatever else the text holds. */
const REQUEST = [
  /did not complete successfully: exit code: \d+/,
  /dockerfile parse error/,
  /^(?!.*\blease\b).*: not found$/,
  // Wrong credentials stay wrong: a registry's 4xx is an answer, but for those that ask to come back.
  /unexpected status.*: (?!408|425|429)4\d\d /,
  /insufficient_scope|failed to authorize|authorization failed|pull access denied/,
];

const INFRASTRUCTURE = [
  /transport|connection (?:error|refused|reset|closed)|closed network connection|broken pipe|EOF$|error reading from server/i,
  /i\/o timeout|deadline exceeded|TLS handshake|x509:|server misbehaving|temporary failure/i,
  /unexpected status.*: (?:5\d\d|408|425|429) |too many requests/i,
  /no space left on device|cannot allocate memory|input\/output error/,
  /rpc error: code = (?:Unavailable|Internal|DeadlineExceeded|ResourceExhausted)|\bUnavailable:/,
  /no active session|inconsistent graph state|lease .*not found/,
];

export function describeFailure({ step, complaint, end }: FailedRun): Failure {
  const said = complaint.replace(/^error: (?:failed to solve: )?/i, '');
  const error = step?.error ?? said;
  const { platform, instruction } = step ?? {};
  return {
    kind: kindOf(error, step !== undefined || /^error: failed to solve/i.test(complaint)),
    reason: shorten(nameBase(instruction, error)) || `the builder ended with ${end}`,
    ...(platform !== undefined && { platform }),
    ...(instruction !== undefined && { step: instruction }),
  };
}

function kindOf(error: string, wasSolving: boolean): Failure['kind'] {
  if (REQUEST.some(pattern => pattern.test(error))) return 'build';
  if (INFRASTRUCTURE.some(pattern => pattern.test(error))) return 'infrastructure';
  return wasSolving ? 'build' : 'infrastructure';
}

/** What BuildKit says of a base image does not always say which. */
function nameBase(instruction: string | undefined, error: string): string {
  const base = instruction?.startsWith('FROM ') ? instruction.slice('FROM '.length) : '';
  return error.includes(base) ? error : `${base}: ${error}`;
}

function shorten(error: string): string {
  const line = error
    .replace(/\s+/g, ' ')
    .replace(/^failed to compute cache key: /, '')
    .replace(/failed to calculate checksum of ref \S+: /, '')
    .replace(/^.*source "docker-image:\/\/(\S+)" denied by policy.*$/, (_, image: string) => mayNotRead(image))
    .replace(
      /^process "(.*)" did not complete successfully: exit code: (\d+).*$/,
      (_, command: string, code: string) => {
        return `"${cut(command, COMMAND_LENGTH)}" ended with exit code ${code}`;
      },
    );
  return cut(line.trim(), REASON_LENGTH);
}

function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}
