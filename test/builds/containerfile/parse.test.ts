import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type ContainerFile,
  type Instruction,
  InvalidContainerFile,
} from '../../../src/builds/containerfile/container-file.ts';
import { parseContainerFile } from '../../../src/builds/containerfile/parse.ts';
import { measureThreadMs } from '../../support/thread-time.ts';

/** The instructions of all stages as `line kind`. */
function outline(file: ContainerFile): readonly string[] {
  return file.stages.flatMap(({ line, instructions }) => [
    `${line} from`,
    ...instructions.map(instruction => `${instruction.line} ${instruction.kind}`),
  ]);
}

function onlyInstruction(text: string): Instruction | undefined {
  return parseContainerFile(`FROM a\n${text}`).stages[0]?.instructions[0];
}

test.each<{ name: string; text: string; lines: readonly string[] }>([
  { name: 'comments and empty lines', text: '# a\n\n FROM a\n\t# b\nRUN c', lines: ['3 from', '5 run'] },
  { name: 'a continued line', text: 'FROM a\nRUN b \\\n  c \\  \n  d\nRUN e', lines: ['1 from', '2 run', '5 run'] },
  {
    name: 'a comment and an empty line within one',
    text: 'FROM a\nRUN b \\\n# c\n\n  d\nRUN e',
    lines: ['1 from', '2 run', '6 run'],
  },
  { name: 'an escaped escape at the end', text: 'FROM a\nRUN b \\\\\nFROM c', lines: ['1 from', '2 run', '3 from'] },
  { name: 'a continued keyword', text: 'FR\\\nOM a\nRUN b', lines: ['1 from', '3 run'] },
  {
    name: 'another escape character',
    text: '# escape=`\nFROM a\nRUN b `\n  c\nRUN \\\nRUN d',
    lines: ['2 from', '3 run', '5 run', '6 run'],
  },
  {
    name: 'an escape directive behind an unknown one',
    text: '# a=b\n# escape=`\nFROM a\nRUN b `\nFROM c',
    lines: ['3 from', '4 run', '5 from'],
  },
  { name: 'a heredoc', text: 'FROM a\nCOPY <<E /b\nFROM c\nE\nFROM d', lines: ['1 from', '2 copy', '5 from'] },
  {
    name: 'two heredocs, the second with tabs',
    text: 'FROM a\nCOPY <<A <<-"B" /c\nB\nA\nFROM d\n\tB\nFROM e',
    lines: ['1 from', '2 copy', '7 from'],
  },
  {
    name: 'a heredoc of a file descriptor',
    text: 'FROM a\nRUN cat 3<<E\nFROM c\nE\nFROM d',
    lines: ['1 from', '2 run', '5 from'],
  },
  {
    name: 'a heredoc with a space before its name',
    text: 'FROM a\nRUN cat << E\nFROM c\nE\nFROM d',
    lines: ['1 from', '2 run', '5 from'],
  },
  {
    name: 'a terminator that is indented',
    text: 'FROM a\nRUN <<E\n E\nFROM c\nE\nFROM d',
    lines: ['1 from', '2 run', '6 from'],
  },
  { name: 'arrows in quotes', text: 'FROM a\nRUN echo "<<E"\nFROM d', lines: ['1 from', '2 run', '3 from'] },
  {
    name: 'arrows of an instruction without heredocs',
    text: 'FROM a\nCMD cat <<E\nFROM d',
    lines: ['1 from', '2 cmd', '3 from'],
  },
  {
    name: 'a heredoc of a trigger',
    text: 'FROM a\nONBUILD COPY <<E /b\nFROM c\nE\nFROM d',
    lines: ['1 from', '2 onbuild', '5 from'],
  },
  {
    name: 'CRLF',
    text: 'FROM a\r\nCOPY <<E /b\r\nFROM c\r\nE\r\nRUN \\\r\n d\r\nFROM e',
    lines: ['1 from', '2 copy', '5 run', '7 from'],
  },
  { name: 'a byte order mark', text: '\uFEFF# escape=`\nFROM a\nRUN `\n b', lines: ['2 from', '3 run'] },
])('finds the instructions around $name', ({ text, lines }) => {
  expect(outline(parseContainerFile(text))).toEqual(lines);
});

test.each<{ text: string; wanted: Partial<Instruction> & Record<string, unknown> }>([
  {
    text: 'ENV a=b c="d e" f=\\ g',
    wanted: {
      pairs: [
        { key: 'a', value: 'b' },
        { key: 'c', value: '"d e"' },
        { key: 'f', value: '\\ g' },
      ],
    },
  },
  { text: 'env a b  c', wanted: { kind: 'env', pairs: [{ key: 'a', value: 'b  c' }] } },
  { text: 'LABEL "a b"=c', wanted: { pairs: [{ key: '"a b"', value: 'c' }] } },
  {
    text: 'ARG a b=c d=',
    wanted: {
      args: [
        { key: 'a', value: undefined },
        { key: 'b', value: 'c' },
        { key: 'd', value: '' },
      ],
    },
  },
  { text: 'CMD ["a", "b c"]', wanted: { command: { form: 'exec', args: ['a', 'b c'] } } },
  { text: "CMD ['a']", wanted: { command: { form: 'shell', text: "['a']" } } },
  { text: 'CMD', wanted: { command: { form: 'shell', text: '' } } },
  { text: 'ENTRYPOINT []', wanted: { command: { form: 'exec', args: [] } } },
  { text: 'SHELL ["a"]', wanted: { shell: ['a'] } },
  { text: 'EXPOSE 80 22/udp 443', wanted: { values: ['22/udp', '443', '80'] } },
  { text: 'VOLUME ["/a b", "/c"]', wanted: { values: ['/a b', '/c'] } },
  { text: 'VOLUME /a /b', wanted: { values: ['/a', '/b'] } },
  { text: 'USER  a:b ', wanted: { value: 'a:b' } },
  {
    text: 'COPY --from=x --chown="1:2" --link a b /c/',
    wanted: { from: 'x', chown: '1:2', isLinked: true, sources: ['a', 'b'], destination: '/c/' },
  },
  {
    text: 'COPY --exclude=*.a --exclude=b --parents=false a /b',
    wanted: { excludes: ['*.a', 'b'], keepsParents: false },
  },
  { text: 'COPY ["a b", "/c"]', wanted: { sources: ['a b'], destination: '/c' } },
  {
    text: 'COPY a <<"E" /c/\n$x\nE',
    wanted: { sources: ['a'], heredocs: [{ name: 'E', content: '$x\n', isExpanded: false }] },
  },
  { text: 'COPY <<-E /c\n\t\tx\n\ty\n\tE', wanted: { heredocs: [{ name: 'E', content: 'x\ny\n', isExpanded: true }] } },
  { text: 'ADD --unpack=false --chmod=u+x a /b', wanted: { kind: 'add', unpacks: false, chmod: 'u+x' } },
  {
    text: 'RUN --mount=from=x,target=/a --mount="type=bind,from=y" --network=none z',
    wanted: { mountSources: ['x', 'y'] },
  },
  { text: 'RUN -- --mount=from=x', wanted: { mountSources: [] } },
  { text: 'ONBUILD  COPY <<E /a\nb\nE', wanted: { trigger: 'COPY <<E /a\nb\nE' } },
  {
    text: 'HEALTHCHECK --interval=1m30s --retries=3 CMD a b',
    wanted: {
      healthcheck: {
        test: ['CMD-SHELL', 'a b'],
        interval: 90e9,
        timeout: 0,
        startPeriod: 0,
        startInterval: 0,
        retries: 3,
      },
    },
  },
  {
    text: 'HEALTHCHECK --timeout=1.5s CMD ["a"]',
    wanted: {
      healthcheck: { test: ['CMD', 'a'], interval: 0, timeout: 1.5e9, startPeriod: 0, startInterval: 0, retries: 0 },
    },
  },
  {
    text: 'HEALTHCHECK none',
    wanted: { healthcheck: { test: ['NONE'], interval: 0, timeout: 0, startPeriod: 0, startInterval: 0, retries: 0 } },
  },
])('reads $text', ({ text, wanted }) => {
  expect(onlyInstruction(text)).toMatchObject(wanted);
});

test('reads names, platforms, arguments and directives around the stages', () => {
  const text =
    '# syntax=docker/dockerfile:1 x\n# check=skip=all\nARG A=b\nFROM --platform=$BUILDPLATFORM $A as Build\nFROM build\n';
  expect(parseContainerFile(text)).toMatchObject({
    syntax: { value: 'docker/dockerfile:1', line: 1 },
    check: { value: 'skip=all', line: 2 },
    globalArgs: [{ args: [{ key: 'A', value: 'b' }], line: 3 }],
    stages: [
      { name: 'build', base: '$A', platform: '$BUILDPLATFORM', line: 4 },
      { name: undefined, base: 'build', platform: undefined, line: 5 },
    ],
  });
});

test.each<[text: string, message: RegExp]>([
  ['', /no FROM/],
  ['RUN a', /no FROM/],
  ['RUN a\nFROM b', /line 1: .*only ARG/],
  ['FROM', /line 1: FROM takes an image/],
  ['FROM a b', /line 1: .*FROM image \[AS name\]/],
  ['FROM a AS 1', /line 1: .*begins with a letter/],
  ['FROM --plattform=x a', /did you mean --platform\?/],
  ['FROM a\nCOPPY b /c', /line 2: unknown instruction "COPPY"; did you mean COPY\?/],
  ['FROM a\nCOPY b', /no destination/],
  ['FROM a\nCOPY --from=$x b c', /--from cannot use a variable/],
  ['FROM a\nCOPY --link=x b c', /expected true or false/],
  ['FROM a\nCOPY --chown b c', /has no value/],
  ['FROM a\nCOPY --from=a --from=b c d', /given twice/],
  ['FROM a\nCOPY b <<c\nc', /as its destination/],
  ['FROM a\nCOPY <<b /c\nFROM d', /line 2: the heredoc "b" is never closed/],
  ['FROM a\nRUN --mount=from=$x b', /cannot use a variable/],
  ['FROM a\nENV b', /no value/],
  ['FROM a\nENV a=b c', /expected name=value/],
  ['FROM a\nARG =b', /expected name/],
  ['FROM a\nUSER', /takes one/],
  ['FROM a\nEXPOSE', /at least one/],
  ['FROM a\nVOLUME [""]', /empty path/],
  ['FROM a\nSHELL sh', /JSON list/],
  ['FROM a\nCMD ["a", 1]', /strings only/],
  ['FROM a\nONBUILD FROM b', /cannot be a trigger/],
  ['FROM a\nONBUILD', /takes one/],
  ['FROM a\nHEALTHCHECK --interval=1x CMD a', /not a duration/],
  ['FROM a\nHEALTHCHECK --interval=1us CMD a', /at least 1ms/],
  ['FROM a\nHEALTHCHECK --retries=-1 CMD a', /not negative/],
  ['FROM a\nHEALTHCHECK CMD', /no command/],
  ['FROM a\nHEALTHCHECK FOO', /CMD or NONE/],
  ['# escape=x\nFROM a', /line 1: .*escape character/],
  ['# escape=`\n# escape=`\nFROM a', /line 2: .*twice/],
  [`FROM a\n${'ENV a=b\n'.repeat(2000)}`, /more than 2000 instructions/],
  [`FROM a\n#${'a'.repeat(1024 * 1024)}`, /longer than/],
])('refuses %j', (text, message) => {
  const parse = () => parseContainerFile(text);
  expect(parse).toThrow(InvalidContainerFile);
  expect(parse).toThrow(message);
});

const piece = fc.constantFrom(
  ...[
    'FROM ',
    'COPY ',
    'RUN ',
    'ARG ',
    'ENV ',
    'ONBUILD ',
    'HEALTHCHECK ',
    'CMD ',
    '--from=',
    '--mount=',
    ' AS ',
    '<<E',
    '<<-"E"',
    'E',
  ],
  ...[
    '\n',
    '\r\n',
    '\\\n',
    '\\',
    '`',
    '# escape=`\n',
    '#',
    ' ',
    '\t',
    '"',
    "'",
    '$',
    `\${`,
    '}',
    ':-',
    '=',
    '[',
    ']',
    '"a"',
    ',',
    'a',
    '/',
    '\u{1F433}',
  ],
);

test('takes any text, or says what is wrong with it', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.array(piece, { maxLength: 60 }).map(pieces => pieces.join('')),
  );
  fc.assert(
    fc.property(text, generated => {
      try {
        expect(parseContainerFile(`FROM a\n${generated}`).stages.length).toBeGreaterThan(0);
      } catch (error) {
        expect(error).toBeInstanceOf(InvalidContainerFile);
      }
    }),
    { numRuns: 3000 },
  );
});

test.each<[name: string, text: string]>([
  ['flags', `FROM a\nRUN ${'--mount=a '.repeat(100_000)}`],
  ['heredocs', `FROM a\nRUN ${'<<A '.repeat(50_000)}\n${'A\n'.repeat(50_000)}`],
  ['quotes', `FROM a\nRUN ${'"'.repeat(500_001)}`],
  ['mount fields', `FROM a\nRUN --mount=${"'\"'".repeat(100_001)} a`],
  ['continued lines', `FROM a\nRUN ${'a \\\n'.repeat(200_000)}`],
  ['spaces', `FROM a\nENV a${' '.repeat(900_000)}`],
])('is done soon with a file full of %s', (_, text) => {
  const parse = () => {
    try {
      parseContainerFile(text);
    } catch (error) {
      expect(error).toBeInstanceOf(InvalidContainerFile);
    }
  };
  expect(measureThreadMs(parse)).toBeLessThan(5000);
});
