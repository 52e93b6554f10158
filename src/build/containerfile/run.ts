// RUN, as far as it matters to who does not run it: which stages and images its mounts read from.
import { type Command, parseFlags } from './command.ts';
import { InvalidSyntax } from './invalid.ts';
import { noVariable } from './transfer.ts';

/** The `from` of each mount. Throws InvalidSyntax. */
export function parseMountSources(command: Command): readonly string[] {
  const flags = parseFlags(command, { mount: 'texts', network: 'text', security: 'text', device: 'texts' });
  return (flags.get('mount') ?? []).flatMap(mount => findFrom(mount) ?? []);
}

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
