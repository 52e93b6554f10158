// EXPOSE: ports and ranges of them, with their protocol.
import type { Work } from '../../work.ts';
import { InvalidStep } from './step.ts';

const PORT =
  /^(?:(?<ip>\[[0-9a-fA-F:.]+\]|[0-9a-fA-F:.]*):)?(?:(?<host>\d+(?:-\d+)?)?:)?(?<ports>\d+(?:-\d+)?)(?:\/(?<protocol>\w*))?$/;
const PROTOCOLS: readonly string[] = ['tcp', 'udp', 'sctp'];
const MAX_PORT = 65535;
const STEPS_OF_A_PORT = 8;

/** As an image config names them: `80/tcp`, each of a range for itself. Throws InvalidStep. */
export function parsePorts(text: string, work: Work): readonly string[] {
  const { ports = '', protocol } = PORT.exec(text)?.groups ?? {};
  const [first = '', last = first] = ports.split('-');
  const [start, end] = [Number(first || Number.NaN), Number(last || Number.NaN)];
  const name = protocol?.toLowerCase() || 'tcp';
  if (!(start <= end && end <= MAX_PORT) || !PROTOCOLS.includes(name)) {
    throw new InvalidStep(`${JSON.stringify(text.slice(0, 80))} is no port; expected such as 80, 53/udp or 8000-8010`);
  }
  work.spend((end - start) * STEPS_OF_A_PORT);
  return Array.from({ length: end - start + 1 }, (_, i) => `${start + i}/${name}`);
}
