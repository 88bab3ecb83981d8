# Prints the parameters that [env.deploy.parameters] of samconfig.toml sets, one Name=value per line. It reads both forms of
# parameter_overrides: the list, and the one string that sam deploy --guided writes. With check=1 it prints instead the first
# parameter that cannot be deployed, and fails. Usage: awk -v env=prod -f overrides.awk [check=1 template.yaml] samconfig.toml

function refuse(place, problem) {
	printf "%s: %s\n", place, problem >"/dev/stderr"
	exit failed = 1
}

# parameters takes one string of the file: Name=value, or several of them with spaces between.
function parameters(text, count, pairs, i, name, value) {
	gsub(/\\"/, "\"", text)
	gsub(/[ \t]+[A-Za-z][A-Za-z0-9]*=/, "\n&", text)
	count = split(text, pairs, "\n")
	for (i = 1; i <= count; i++) {
		gsub(/^[ \t]+|[ \t]+$/, "", pairs[i])
		name = value = pairs[i]
		sub(/=.*/, "", name)
		sub(/^[^=]*=/, "", value)
		if (check) examine(name, value)
		gsub(/^"|"$/, "", value)
		if (!check) print name "=" value
		else if (name == "AllowedConfigurationIds" && value != "") flows = 1
	}
}

# examine accepts the quoted empty values that --guided writes, which SAM CLI accepts, too.
function examine(name, value, place) {
	place = FILENAME ":" FNR
	if (!(name in declared)) # SAM CLI would ignore it
		refuse(place, name " is not a parameter of template.yaml.")
	if (name == "AllowedConfigurationIds" && value ~ /^("")?$/)
		refuse(place, "AllowedConfigurationIds is empty. Enter the IDs of your flows.")
	if (value == "")
		refuse(place, name " is empty. Enter a value, or put a # before the line.")
	if (value ~ /[ \t]/)
		refuse(place, name " has a space in its value. Separate entries by commas alone.")
}

FILENAME ~ /template\.yaml$/ {
	if (/^[A-Za-z]/) declaring = /^Parameters:/
	if (declaring && match($0, /^  [A-Za-z0-9]+:/)) declared[substr($0, 3, RLENGTH - 3)]
	next
}

/^[ \t]*\[/ && !reading {
	section = index($0, "[" env ".deploy.parameters]") == 1
	next
}

section && /^[ \t]*parameter_overrides[ \t]*=/ {
	reading = 1
	list = /=[ \t]*\[/
}

reading {
	rest = $0
	while (match(rest, /"([^"\\]|\\.)*"|'[^']*'|#.*|\]/)) {
		token = substr(rest, RSTART, RLENGTH)
		rest = substr(rest, RSTART + RLENGTH)
		if (token ~ /^["']/) parameters(substr(token, 2, length(token) - 2))
		if (token == "]") reading = 0
	}
	if (!list) reading = 0
}

END {
	if (check && !failed && !flows)
		refuse(FILENAME, "[" env ".deploy.parameters] has no AllowedConfigurationIds in parameter_overrides.")
	exit failed
}
