// Commands that answer a question: their output as one text.
import { stripVTControlCharacters } from 'node:util';
import { BackendUnavailable } from './backend.ts';
import { type ProcessOptions, runProcess } from './process.ts';

const MAX_LENGTH = 4 * 1024 * 1024;
const COMPLAINT_LENGTH = 400;

export type ReadOptions = Omit<ProcessOptions, 'onLine'> & { readonly timeoutMs: number };

/**
 * The standard output of a command. Throws BackendUnavailable where it cannot be started, ends with a code other than 0 (then with the
 * last line of its standard error), says more than 4 Mi characters or does not end within `timeoutMs`; else the signal's reason.
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
    tooLong.abort(new BackendUnavailable(`${command} says more than ${MAX_LENGTH} characters`));
  };
  const { code, endedBy } = await runProcess(command, args, { maxLineLength: MAX_LENGTH, ...options, signal, onLine });
  if (code === 0) return output;
  const said = stripVTControlCharacters(complaint).slice(0, COMPLAINT_LENGTH);
  throw new BackendUnavailable(`${command} failed: ${said || (endedBy ?? `exit code ${code}`)}`);
}
