// HEALTHCHECK: https://docs.docker.com/reference/dockerfile/#healthcheck
import { parseCommandLine } from './arguments.ts';
import { type Command, parseFlags } from './command.ts';
import { parseDuration } from './duration.ts';
import type { Healthcheck } from './instruction.ts';
import { InvalidSyntax, quote } from './invalid.ts';

const FLAGS = {
  interval: 'text',
  timeout: 'text',
  'start-period': 'text',
  'start-interval': 'text',
  retries: 'text',
} as const;

const MILLISECOND = 1e6;
const MAX_RETRIES = 2 ** 31 - 1;
const NONE: Healthcheck = { test: ['NONE'], interval: 0, timeout: 0, startPeriod: 0, startInterval: 0, retries: 0 };

/** Throws InvalidSyntax. */
export function parseHealthcheck(command: Command): Healthcheck {
  const [, type = '', rest = ''] = /^([^\t\v\f\r ]*)[\t\v\f\r ]*(.*)$/s.exec(command.rest) ?? [];
  if (type.toUpperCase() === 'NONE') {
    if (rest !== '') throw new InvalidSyntax('HEALTHCHECK NONE takes no arguments');
    return NONE;
  }
  if (type.toUpperCase() !== 'CMD') throw new InvalidSyntax(`HEALTHCHECK has ${quote(type)}; expected CMD or NONE`);
  const flags = parseFlags(command, FLAGS);
  const read = (name: keyof typeof FLAGS) => parseInterval(name, flags.get(name)?.[0]);
  return {
    test: parseTest(rest),
    interval: read('interval'),
    timeout: read('timeout'),
    startPeriod: read('start-period'),
    startInterval: read('start-interval'),
    retries: parseRetries(flags.get('retries')?.[0]),
  };
}

function parseTest(text: string): readonly string[] {
  const line = parseCommandLine(text);
  if (text === '' || (line.form === 'exec' && line.args.length === 0)) {
    throw new InvalidSyntax('HEALTHCHECK CMD has no command; expected HEALTHCHECK CMD command');
  }
  return line.form === 'exec' ? ['CMD', ...line.args] : ['CMD-SHELL', line.text];
}

function parseInterval(name: string, text = ''): number {
  const duration = text === '' ? 0 : parseDuration(text);
  if (duration === 0 || duration >= MILLISECOND) return duration;
  throw new InvalidSyntax(`--${name} is ${quote(text)}; it must be at least 1ms`);
}

function parseRetries(text = ''): number {
  if (text === '') return 0;
  const retries = /^\+?\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (retries <= MAX_RETRIES) return retries;
  throw new InvalidSyntax(`--retries is ${quote(text)}; expected a whole number, not negative`);
}
