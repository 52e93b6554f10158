// HEALTHCHECK and its durations, as Go writes them: https://docs.docker.com/reference/dockerfile/#healthcheck
import { type Command, parseCommandLine, parseFlags } from './command.ts';
import { type Healthcheck, InvalidSyntax, quote } from './container-file.ts';

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

const NANOSECONDS: ReadonlyMap<string, number> = new Map([
  ['ns', 1],
  ['us', 1e3],
  ['µs', 1e3],
  ['μs', 1e3],
  ['ms', 1e6],
  ['s', 1e9],
  ['m', 60e9],
  ['h', 3600e9],
]);

const DURATION = /^[-+]?(?:0|(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)$/;

const PART = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/gy;

/** In nanoseconds. Throws InvalidSyntax. */
function parseDuration(text: string): number {
  if (text.length > 40 || !DURATION.test(text)) {
    throw new InvalidSyntax(`${quote(text)} is not a duration; expected a number with its unit, such as 30s or 1m30s`);
  }
  const parts = [...text.replace(/^[-+]/, '').matchAll(PART)].map(
    ([, number, unit = '']) => Number(number) * (NANOSECONDS.get(unit) ?? 0),
  );
  const total = Math.trunc(parts.reduce((sum, part) => sum + part, 0));
  return text.startsWith('-') ? -total : total;
}

function parseRetries(text = ''): number {
  if (text === '') return 0;
  const retries = /^\+?\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (retries <= MAX_RETRIES) return retries;
  throw new InvalidSyntax(`--retries is ${quote(text)}; expected a whole number, not negative`);
}
