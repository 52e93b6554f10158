// STOPSIGNAL: a signal of Linux, by its name or its number.
import { constants } from 'node:os';
import { InvalidStep } from './step.ts';

const MAX_SIGNAL = 64;
/** Names that Linux has beyond those of this system, which may be another. */
const MORE = ['SIGCLD', 'SIGSTKFLT', 'SIGPOLL', 'SIGPWR'];
const REALTIME = /^SIGRTM(?:IN(?:\+(?:[1-9]|1[0-5]))?|AX(?:-(?:[1-9]|1[0-4]))?)$/;

/** The text itself. Throws InvalidStep. */
export function checkSignal(text: string): string {
  const number = /^\d{1,3}$/.test(text) ? Number(text) : undefined;
  const name = text.toUpperCase().startsWith('SIG') ? text.toUpperCase() : `SIG${text.toUpperCase()}`;
  const isName = Object.hasOwn(constants.signals, name) || MORE.includes(name) || REALTIME.test(name);
  if (number === undefined ? isName : number > 0 && number <= MAX_SIGNAL) return text;
  throw new InvalidStep(`${JSON.stringify(text.slice(0, 80))} is no signal; expected such as SIGTERM or 15`);
}
