// RUN, as far as it matters to who does not run it: which stages and images its mounts read from, and what it wants of the machine.
import { type Command, parseFlags } from './command.ts';
import type { RunInstruction } from './instruction.ts';
import { InvalidSyntax } from './invalid.ts';
import { noVariable } from './transfer.ts';

/** Throws InvalidSyntax. */
export function parseRunFlags(command: Command): Pick<RunInstruction, 'mountSources' | 'demands'> {
  const flags = parseFlags(command, { mount: 'texts', network: 'text', security: 'text', device: 'texts' });
  const [network, security] = [flags.get('network')?.at(-1), flags.get('security')?.at(-1)];
  return {
    mountSources: (flags.get('mount') ?? []).flatMap(mount => findFrom(mount) ?? []),
    demands: [
      ...(network === undefined || HARMLESS.includes(network) ? [] : [`--network=${network}`]),
      ...(security === undefined || security === 'sandbox' ? [] : [`--security=${security}`]),
      ...(flags.get('device') ?? []).map(device => `--device=${device}`),
    ],
  };
}

const HARMLESS = ['default', 'none'];

function findFrom(mount: string): string | undefined {
  const from = splitFields(mount).findLast(({ key }) => key === 'from')?.value;
  if (from && /\$(?!$)/.test(from)) throw new InvalidSyntax(noVariable('the "from" of --mount'));
  return from || undefined;
}

/** Fields of comma-separated values; one in double quotes may hold commas. */
function splitFields(text: string): readonly { readonly key: string; readonly value: string }[] {
  const fields = text.match(/(?:"[^"]*"|[^,"])+/g) ?? [];
  return fields.map(field => {
    const plain = field.replace(/^"(.*)"$/s, '$1').replaceAll('""', '"');
    const equals = plain.indexOf('=');
    return { key: plain.slice(0, equals).toLowerCase(), value: plain.slice(equals + 1) };
  });
}
